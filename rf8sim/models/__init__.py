"""Running a model in a stated datapath."""
