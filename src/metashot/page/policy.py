"""What the page may load and do in a browser: its own files and nothing else (Content-Security-Policy)."""

_EVERYWHERE = (
    "default-src 'none'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
POLICY_OF_SERVER = f"{_EVERYWHERE}; script-src 'self'; frame-ancestors 'none'"
POLICY_OF_FILES = f"{_EVERYWHERE}; script-src 'self' 'wasm-unsafe-eval'"  # a document itself cannot say who may frame it
