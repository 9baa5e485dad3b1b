//! LogQL: lexer, parser, pipeline stages, evaluation.
