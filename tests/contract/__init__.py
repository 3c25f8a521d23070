"""The contract suite: the rules every driver keeps, as one body of named cases over all drivers and faces."""
