"""Everything that reaches into pynetdicom's private parts: an event-driven upper layer (PS3.8).

```
server > association > reactor             associations that are opened to the node: accept, start, upper layer
state_machine, request, fault_log          below the reactor: events, A-ASSOCIATE-RQ, the one line of a fault
messages > command, pdata                  C-STORE requests out of P-DATA-TF PDUs
requestor                                  associations that the node opens
sockets, timers                            both
private_names                              the list of what is relied upon
```
"""
