"""`simswap-jax VERB`: parsers that build requests."""

import argparse
import textwrap


def command_parser(verb: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """The parser of ``simswap-jax VERB``, without arguments yet; ``epilog`` (examples) is shown as it is written."""
    return argparse.ArgumentParser(
        f"simswap-jax {verb}",
        description=description if "\n" in description else textwrap.fill(description, 80),
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
