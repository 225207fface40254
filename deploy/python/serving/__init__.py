"""What an exported directory needs to give vectors: no paddlenlp and no training code. Imports only itself."""
