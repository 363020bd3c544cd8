"""`zsar cache info` and `zsar cache clear`."""

from __future__ import annotations

import typer

from zsar_cli.cli import options
from zsar_cli.cli.engine import cache_folder
from zsar_cli.cli.guard import guarded

__all__ = ["app"]

app = typer.Typer(help="The embedding cache: what was computed once and need not be computed again.",
                  no_args_is_help=True)  # fmt: skip


def info(cache_dir: options.CacheDir = None) -> None:
    """Show where the cache is, what it holds and its size."""
    from zsar_cli.store.cache import EmbeddingCache

    state = EmbeddingCache(cache_folder(cache_dir)).info()
    typer.echo(f"file     {state.path}")
    typer.echo(f"size     {state.size / 1e6:.1f} MB")
    for kind, count in state.entries.items():
        typer.echo(f"{kind:8} {count} embeddings")
    if not state.entries:
        typer.echo("empty")


def clear(cache_dir: options.CacheDir = None) -> None:
    """Delete the cache. The next run computes anew what it needs."""
    from zsar_cli.store.cache import EmbeddingCache

    freed = EmbeddingCache(cache_folder(cache_dir)).clear()
    typer.echo(f"freed {freed / 1e6:.1f} MB")


app.command("info")(guarded(info))
app.command("clear")(guarded(clear))
