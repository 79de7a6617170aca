"""Found before the real one by the processes that tests start, and not there for them: as in the image.

`kubernetes` imports it where it is installed, and with it comes a library that makes grammars for two seconds: longer
than all that Stowage needs to start. We want its schemas, in tests of the chart, as files.
"""

raise ImportError("installed for its schemas alone")
