"""A cluster on this machine to try Stowage on: real control plane, simulated nodes, ready-made workloads."""
