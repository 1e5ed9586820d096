"""An adversary with a goal and a budget plays against the whole pipeline, with the edge in the loop."""
