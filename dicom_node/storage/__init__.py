"""The disk under the store: durable files, unfinished files, and the folders of the processes that write them."""
