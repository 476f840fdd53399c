"""What tests stand on, ours and yours: checks, the session contract, the leak check.

Each module can be used by itself:

    gradcheck.py   the rules of one operator against differences, outside of any net
    gradients.py   the gradients of operators and nets, as a workspace runs them
    references.py  what an operator makes, against a function of arrays
    devices.py     what an operator or a net makes, with one device option and with another
    running.py     one operator in a workspace: fed, run, fetched, timed
    strategies.py  hypothesis: tensors, lengths and segments as inputs
    session_contract/  what every session has to do
    leaks.py       a pytest plugin: what a test leaves behind
"""
