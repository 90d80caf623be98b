"""The mesh, and what the processes of a job tell each other."""
