"""`augscale` and `python -m augscale`."""

from __future__ import annotations


def main() -> None:
    from augscale.cli import run

    run()


if __name__ == "__main__":
    main()
