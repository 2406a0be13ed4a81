"""Speed and memory beside other tools; see docs/performance.md. Nothing here is part of the package."""
