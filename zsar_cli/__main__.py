"""`zsar` and `python -m zsar_cli`."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from zsar_cli.cli.app import app

    app(prog_name="zsar")


if __name__ == "__main__":
    main()
