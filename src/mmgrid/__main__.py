"""`python -m mmgrid`: the command line, where its script is not on the path."""

from mmgrid.cli.main import console

if __name__ == "__main__":
    console()
