"""The main job: options, plan, loop, tracks, results."""
