"""Which device of a node a GPU share gets: kube-scheduler counts devices, and a share has to fit on one of them.

`fit` says whether pods fit on the devices of a node, `limits` what a packing problem knows of devices, `rows` is the
same for CP-SAT, `gates` for the order of moves. The rule that checks a finished plan (`rules.gpu_shares`) uses none of
them. The record is docs/design/gpu-shares.md.
"""
