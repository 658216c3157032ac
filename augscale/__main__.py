"""`augscale` and `python -m augscale`."""

from __future__ import annotations

import sys


def main() -> None:
    from augscale.signals import StoppedEarly, stop_until_ready

    try:
        stop_until_ready()
        from augscale.large_pages import restart_with_large_pages

        restart_with_large_pages()
        from augscale.cli import run

        run()
    except StoppedEarly as error:
        print(f"augscale: {error}", file=sys.stderr)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
