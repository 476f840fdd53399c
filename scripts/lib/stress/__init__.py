"""What `scripts/stress` soaks: sessions, against a NumPy model, while their processes are killed.

General layout, in the order in which a command passes through:

    command.py      the command line; which parts there are, and the exit code
    soak.py         a session and the model of it; one call after another; what a death must be like
    actions.py      what is done with a session
    work.py, inside.py
                    what runs in the workers: groups; functions, objects that take their time
    model.py        what each blob must be, or may be after its worker died
    killer.py       the process that kills workers, and says when
    watchdog.py     the thread that sees that nothing hangs
    coordinator.py  whole coordinators, killed from outside
    leftovers.py    what a process or a coordinator left behind
    report.py       what was done, what was wrong, how long an error takes to come
"""
