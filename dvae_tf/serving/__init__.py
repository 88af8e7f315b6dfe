"""Exporting trained models, and serving the exports.

Writing a version: `export` (the command) -> `version` (its files) -> `signatures` (its functions, with
`finite`), `description` (signature.json), `warmup`, `model_card`, `purity` (the check).

Answering a request: `server` (the command) -> `application` (paths, limits) -> `models` (the newest
version), `predict` or `page` -> `tensors` (JSON to tensors and back).

`names` names the tensors of signatures, for writing and for reading.
"""
