"""`augscale` and `python -m augscale`."""

from __future__ import annotations


def main() -> None:
    from augscale.large_pages import restart_with_large_pages

    restart_with_large_pages()
    from augscale.cli import run

    run()


if __name__ == "__main__":
    main()
