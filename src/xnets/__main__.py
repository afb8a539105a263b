"""Run the command line by `python -m xnets`, as `torchrun -m` does."""

from xnets.cli import main

if __name__ == "__main__":
    main()
