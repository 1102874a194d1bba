"""Who does what when: settings, protocols, ledger, queue, and the steps that join the rooms."""
