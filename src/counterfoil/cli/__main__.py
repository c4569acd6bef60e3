"""`python -m counterfoil.cli`: the same as `counterfoil`."""

from counterfoil.cli.command import main

__all__: list[str] = []

if __name__ == "__main__":
    raise SystemExit(main())
