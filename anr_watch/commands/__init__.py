"""What a person can ask for, one module per command: `add_arguments(parser)` and `run(args) -> exit status`.

The modules here are imported only when their command runs (`cli.py` sees to that), so they may import what they
need. They may not hold SQL, replay or fill logic: they ask the modules that do and put the answer into words.
"""
