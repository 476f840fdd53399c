"""What `scripts/bench` measures: Procession beside the machine's limits and what else there is.

General layout, in the order in which a command passes through:

    command.py      the command line; which cases, which sides, which outputs
    peers.py        what one would take instead: names, and whether they are installed
    roundtrip.py, fetch.py, feed.py, startup.py, throughput.py, scale.py, training.py,
    collectives.py
                    one per subcommand: its cases, their sides, and the goals
    case.py         a case: one thing that several sides do, and the goals for it
    pairs.py        rounds in which the sides take turns
    process.py      a side's interpreter, and the line protocol to it
    sides/          what is run in those interpreters
    report.py, plot.py
                    the table, the JSON and the picture
    language.py, language_cases.py
                    the subcommand `language`, which has sides of its own
"""
