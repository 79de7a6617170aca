"""GPUs as devices: what fits on which, how much free GPU is of no use, and how to make room.

Values in, values out: nothing here knows of pods, nodes or Kubernetes. Amounts are ints: CPU in milli-CPU, memory in
MiB (requests rounded up, capacities down), GPUs in thousandths of one device.
"""
