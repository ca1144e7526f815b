"""The main job in one command: real processes, real keys, three products that anyone can verify."""
