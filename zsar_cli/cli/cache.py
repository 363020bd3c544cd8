"""`zsar cache info` and `zsar cache clear`."""

from __future__ import annotations

from zsar_cli.cli import options
from zsar_cli.cli.console import show
from zsar_cli.cli.engine import cache_folder
from zsar_cli.cli.guard import guarded
from zsar_cli.cli.pages import Commands

__all__ = ["app"]

app = Commands(help="Show or clear the embedding cache.")


def info(cache_dir: options.CacheDir = None) -> None:
    """Show where the cache is, what it holds and its size.

    Example: zsar cache info
    """
    from zsar_cli.store.cache import EmbeddingCache
    from zsar_cli.store.features import FeatureCache

    state = EmbeddingCache(cache_folder(cache_dir)).info()
    features = FeatureCache(cache_folder(cache_dir))
    videos, size = features.info()
    lines = [f"file     {state.path}", f"size     {state.size / 1e6:.1f} MB"]
    lines += [f"{kind:8} {count} embeddings" for kind, count in state.entries.items()] or ["empty"]
    if videos:
        lines += [
            f"folder   {features.folder}",
            f"size     {size / 1e6:.1f} MB",
            f"features {videos} of videos, for training",
        ]
    show("\n".join(lines))


def clear(cache_dir: options.CacheDir = None) -> None:
    """Delete the cache. The next run computes anew what it needs.

    Example: zsar cache clear
    """
    from zsar_cli.store.cache import EmbeddingCache
    from zsar_cli.store.features import FeatureCache

    folder = cache_folder(cache_dir)
    freed = EmbeddingCache(folder).clear() + FeatureCache(folder).clear()
    show(f"freed {freed / 1e6:.1f} MB")


app.command("info")(guarded(info))
app.command("clear")(guarded(clear))
