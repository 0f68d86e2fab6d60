"""The command line: ``surefoot NOUN VERB``; one file per noun."""
