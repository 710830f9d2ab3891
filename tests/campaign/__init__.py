"""The campaign: everything that changes a store, beside everything that reads it, at random, over both engines.

`rows` reads what is physically there and says what it amounts to, by code of its own; `book` knows what was sent and
acknowledged; `stores` are the engines, with every append noted; `writers`, `operators` and `readers` do what their
names say; `ending` holds all of it against each other.
"""
