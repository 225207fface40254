"""What can be chosen by name, and where it is: flags offer the names, nothing is imported before it is asked for."""

# Index engines: module and class, see semindex.search.index.
ENGINES = {"exact": "semindex.search.exact:ExactIndex", "hnsw": "semindex.search.hnsw:HnswIndex",
           "milvus": "semindex.search.milvus:MilvusIndex"}
