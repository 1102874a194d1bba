"""Everything that reaches into pynetdicom's private parts: an event-driven upper layer (PS3.8).

```
server > reactor > messages > command      associations that are opened to the node
                   pdata                   P-DATA-TF PDUs
requestor                                  associations that the node opens
sockets, timers                            both
private_names                              the list of what is relied upon
```
"""
