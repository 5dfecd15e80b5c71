"""The one format of corpora: clips of talking portraits in tar shards that the webdataset library reads too, and a manifest."""
