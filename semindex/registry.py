"""What can be chosen by name, and where it is: flags offer the names, nothing is imported before it is asked for."""

# Index engines: module and class, see semindex.search.index.
ENGINES = {
    "exact": "semindex.search.exact:ExactIndex",
    "hnsw": "semindex.search.hnsw:HnswIndex",
    "int8": "semindex.search.int8:ExactInt8",
    "hnsw_int8": "semindex.search.hnsw_int8:HnswInt8",
    "milvus": "semindex.search.milvus:MilvusIndex",
}
