"""`augscale` and `python -m augscale`."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; signals that come before it is ready end the process with their exit code."""
    from augscale.system.signals import StoppedEarly, stop_until_ready

    try:
        stop_until_ready()
        from augscale.system.startup import restart_with_large_pages

        restart_with_large_pages()
        from augscale.cli.app import run

        run()
    except StoppedEarly as error:
        print(f"augscale: {error}", file=sys.stderr)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
