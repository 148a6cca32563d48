"""What every other folder stands on: checks of arguments, files, threads, display. Imports nothing of the project."""
