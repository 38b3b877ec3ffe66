"""`simswap-jax completion SHELL`: prints what completes commands, their flags and the fields of an experiment."""

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module

from simswap_jax.cli import command_parser

SHELLS = ("bash", "zsh", "fish")
EXAMPLES = """\
bash:   simswap-jax completion bash > ~/.local/share/bash-completion/completions/simswap-jax
zsh:    simswap-jax completion zsh > ~/.zfunc/_simswap-jax     (a folder of $fpath)
fish:   simswap-jax completion fish > ~/.config/fish/completions/simswap-jax.fish
now:    source <(simswap-jax completion bash)
"""


def main(arguments: Sequence[str]) -> int:
    """Print the script; returns 0."""
    options = parser().parse_args(arguments)
    print({"bash": bash, "zsh": zsh, "fish": fish}[options.shell](flags()), end="")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parse = command_parser("completion", "Print what completes these commands in a shell.", EXAMPLES)
    parse.add_argument("shell", choices=SHELLS, help="which shell")
    return parse


def flags() -> dict[str, list[str]]:
    """Command → the words that may follow it: flags, and fixed choices of what stands without one."""
    from simswap_jax.cli.main import VERBS

    found = {verb: [] if verb == "train" else words_of(module.split(":")[0]) for verb, (module, _) in VERBS.items()}
    found["train"] = ["--config", "--help", "--list", "--print-config", "--workdir", *fields()]
    for verb in ("compare", "sweep", "preflight"):
        found[verb] += fields()
    return found


def words_of(module: str) -> list[str]:
    """The flags of a command, in order, and the choices of its positional arguments."""
    parse: argparse.ArgumentParser = import_module(module).parser()
    words = []
    for action in parse._actions:
        words += [flag for flag in action.option_strings if flag.startswith("--")]
        words += [] if action.option_strings else [str(choice) for choice in action.choices or ()]
    return sorted(words)


def fields() -> list[str]:
    """``--config.name=`` of every field that SimSwap's default experiment has."""
    from simswap_jax.training.config import default_config
    from simswap_jax.training.experiment import flat

    return sorted(f"--config.{name}=" for name in flat(default_config().to_dict()))


def bash(words: Mapping[str, Sequence[str]]) -> str:
    """For bash. A word that ends in = gets no space; a value is completed as a file."""
    cases = "\n".join(f'    {verb}) words="{" ".join(more)}" ;;' for verb, more in words.items())
    return f"""# bash completion of simswap-jax
_simswap_jax() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" words=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{" ".join(words)} --help --version" -- "$current"))
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  if [[ "$current" == -* || "${{COMP_WORDS[1]}}" == completion ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    if [[ "${{COMPREPLY[0]}}" == *= ]]; then compopt -o nospace; fi
  else
    COMPREPLY=($(compgen -f -- "$current"))
    compopt -o filenames
  fi
}}
complete -F _simswap_jax simswap-jax
"""


def zsh(words: Mapping[str, Sequence[str]]) -> str:
    """For zsh."""
    cases = "\n".join(f"    {verb}) words_of=({' '.join(more)}) ;;" for verb, more in words.items())
    return f"""#compdef simswap-jax
_simswap-jax() {{
  local -a words_of
  if (( CURRENT == 2 )); then
    compadd -- {" ".join(words)} --help --version
    return
  fi
  case "${{words[2]}}" in
{cases}
  esac
  if [[ "$PREFIX" == -* || "${{words[2]}}" == completion ]]; then
    compadd -S '' -- ${{(M)words_of:#*=}}
    compadd -- ${{words_of:#*=}}
  else
    _files
  fi
}}
if [ "$funcstack[1]" = "_simswap-jax" ]; then _simswap-jax; else compdef _simswap-jax simswap-jax; fi
"""


def fish(words: Mapping[str, Sequence[str]]) -> str:
    """For fish."""
    from simswap_jax.cli.main import VERBS

    lines = ["# fish completion of simswap-jax"]
    for verb, (_, what) in VERBS.items():
        said = what.replace("'", "\\'")
        lines.append(f"complete -c simswap-jax -n __fish_use_subcommand -f -a {verb} -d '{said}'")
    for verb, more in words.items():
        condition = f"'__fish_seen_subcommand_from {verb}'"
        for word in more:
            named = f"-l {word[2:]}" if word.startswith("--") and not word.endswith("=") else f"-f -a {word}"
            lines.append(f"complete -c simswap-jax -n {condition} {named}")
    return "\n".join(lines) + "\n"
