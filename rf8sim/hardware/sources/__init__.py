"""Sources for designers: SystemVerilog, VHDL and C, their test benches, their area."""
