//! PromQL: lexer, parser, functions, evaluation over all steps at once.
