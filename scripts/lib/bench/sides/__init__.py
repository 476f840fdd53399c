"""The sides: a module each, with a class `Side` whose methods are what `case.Ask` asks for.

A side opens what it needs at its first question, keeps it, and closes it in `close`. Every method
takes `budget`, the seconds to spend, and returns figures; what several sides have in common:

    roundtrip(nodes)        a no-op on each of so many workers at once
    throughput(waiting)     small tasks on two workers: each pair awaited, or all handed out at once
    feed(size), fetch(size) an array of so many bytes into a worker, and out of it
    startup(further)        the first worker and so many further ones, in a fresh interpreter
    step(batch, check)      a step of training; with `check`, the losses of the first few instead
"""
