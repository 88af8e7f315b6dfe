"""From a trained model to answers: export, and the server of exports.

Writing a version: `export` (the command) -> `version` (its files) -> `signatures` (what it computes),
`description` (signature.json), `warmup`, `model_card`, `purity` (the check).

Answering a request: `server` (the command) -> `application` (paths, limits) -> `models` (the newest
version), `predict` or `page` -> `tensors` (JSON to tensors and back).

`names` says what the tensors of signatures are called, in both.
"""
