//! The functions, aggregations and keywords of PromQL that completion offers, each with a line of help.

/// (name, what it takes, what it gives)
pub(crate) const FUNCTIONS: [(&str, &str, &str); 84] = [
    ("abs", "(v)", "absolute value"),
    ("absent", "(v)", "1 if the vector has no elements"),
    ("absent_over_time", "(v[d])", "1 if there are no samples in the range"),
    ("acos", "(v)", "arc cosine"),
    ("acosh", "(v)", "inverse hyperbolic cosine"),
    ("asin", "(v)", "arc sine"),
    ("asinh", "(v)", "inverse hyperbolic sine"),
    ("atan", "(v)", "arc tangent"),
    ("atanh", "(v)", "inverse hyperbolic tangent"),
    ("avg_over_time", "(v[d])", "mean of the samples in the range"),
    ("ceil", "(v)", "rounds up"),
    ("changes", "(v[d])", "how often the value changed"),
    ("clamp", "(v, min, max)", "keeps values between two bounds"),
    ("clamp_max", "(v, max)", "keeps values at most at a bound"),
    ("clamp_min", "(v, min)", "keeps values at least at a bound"),
    ("cos", "(v)", "cosine"),
    ("cosh", "(v)", "hyperbolic cosine"),
    ("count_over_time", "(v[d])", "number of samples in the range"),
    ("day_of_month", "(v)", "day of the month in UTC"),
    ("day_of_week", "(v)", "day of the week in UTC, Sunday is 0"),
    ("day_of_year", "(v)", "day of the year in UTC"),
    ("days_in_month", "(v)", "number of days in the month"),
    ("deg", "(v)", "radians to degrees"),
    ("delta", "(v[d])", "difference of a gauge over the range"),
    ("deriv", "(v[d])", "slope per second by linear regression"),
    ("double_exponential_smoothing", "(v[d], sf, tf)", "smoothed value with trend"),
    ("exp", "(v)", "e to the power of the value"),
    ("first_over_time", "(v[d])", "oldest sample in the range"),
    ("floor", "(v)", "rounds down"),
    ("histogram_avg", "(v)", "mean of a native histogram"),
    ("histogram_count", "(v)", "count of a native histogram"),
    ("histogram_fraction", "(lower, upper, v)", "share of observations between two bounds"),
    ("histogram_quantile", "(q, v)", "quantile of a histogram, 0 to 1"),
    ("histogram_stddev", "(v)", "standard deviation of a native histogram"),
    ("histogram_stdvar", "(v)", "variance of a native histogram"),
    ("histogram_sum", "(v)", "sum of a native histogram"),
    ("hour", "(v)", "hour of the day in UTC"),
    ("idelta", "(v[d])", "difference of the last two samples"),
    ("increase", "(v[d])", "increase of a counter over the range"),
    ("info", "(v, {…})", "adds labels of info metrics"),
    ("irate", "(v[d])", "rate per second of the last two samples"),
    ("label_join", "(v, dst, sep, src…)", "joins labels into one"),
    ("label_replace", "(v, dst, repl, src, regex)", "sets a label by a regular expression"),
    ("last_over_time", "(v[d])", "newest sample in the range"),
    ("ln", "(v)", "natural logarithm"),
    ("log10", "(v)", "decimal logarithm"),
    ("log2", "(v)", "binary logarithm"),
    ("mad_over_time", "(v[d])", "median absolute deviation in the range"),
    ("max_over_time", "(v[d])", "greatest sample in the range"),
    ("min_over_time", "(v[d])", "least sample in the range"),
    ("minute", "(v)", "minute of the hour in UTC"),
    ("month", "(v)", "month of the year in UTC"),
    ("pi", "()", "3.14159…"),
    ("predict_linear", "(v[d], s)", "value in s seconds by linear regression"),
    ("present_over_time", "(v[d])", "1 for any series in the range"),
    ("quantile_over_time", "(q, v[d])", "quantile of the samples in the range"),
    ("rad", "(v)", "degrees to radians"),
    ("rate", "(v[d])", "rate per second of a counter over the range"),
    ("resets", "(v[d])", "how often a counter was reset"),
    ("round", "(v, to)", "rounds to the nearest multiple"),
    ("scalar", "(v)", "the value of a vector's only element"),
    ("sgn", "(v)", "sign: -1, 0 or 1"),
    ("sin", "(v)", "sine"),
    ("sinh", "(v)", "hyperbolic sine"),
    ("sort", "(v)", "sorts by value, ascending"),
    ("sort_by_label", "(v, label…)", "sorts by labels, ascending"),
    ("sort_by_label_desc", "(v, label…)", "sorts by labels, descending"),
    ("sort_desc", "(v)", "sorts by value, descending"),
    ("sqrt", "(v)", "square root"),
    ("stddev_over_time", "(v[d])", "standard deviation in the range"),
    ("stdvar_over_time", "(v[d])", "variance in the range"),
    ("sum_over_time", "(v[d])", "sum of the samples in the range"),
    ("tan", "(v)", "tangent"),
    ("tanh", "(v)", "hyperbolic tangent"),
    ("time", "()", "seconds since 1970 of the evaluation"),
    ("timestamp", "(v)", "seconds since 1970 of each sample"),
    ("ts_of_first_over_time", "(v[d])", "time of the oldest sample"),
    ("ts_of_last_over_time", "(v[d])", "time of the newest sample"),
    ("ts_of_max_over_time", "(v[d])", "time of the greatest sample"),
    ("ts_of_min_over_time", "(v[d])", "time of the least sample"),
    ("vector", "(s)", "a scalar as a vector without labels"),
    ("year", "(v)", "year in UTC"),
    ("start", "()", "start of the range, behind @"),
    ("end", "()", "end of the range, behind @"),
];

/// (name, what it gives). They take `by (…)` or `without (…)`.
pub(crate) const AGGREGATIONS: [(&str, &str); 14] = [
    ("avg", "mean"),
    ("bottomk", "the k least"),
    ("count", "number of elements"),
    ("count_values", "number of elements by value"),
    ("group", "1 for each group"),
    ("limit_ratio", "a share of the elements"),
    ("limitk", "any k elements"),
    ("max", "greatest value"),
    ("min", "least value"),
    ("quantile", "quantile, 0 to 1"),
    ("stddev", "standard deviation"),
    ("stdvar", "variance"),
    ("sum", "sum"),
    ("topk", "the k greatest"),
];

/// Words that are neither function nor metric.
pub(crate) const KEYWORDS: [&str; 12] =
    ["and", "bool", "by", "group_left", "group_right", "ignoring", "inf", "nan", "offset", "on", "or", "unless"];

/// The last keyword, which takes a list of labels like `by`, `on` and `ignoring`.
pub(crate) const WITHOUT: &str = "without";

/// Whether a list of labels follows this word.
pub(crate) fn takes_labels(word: &str) -> bool {
    ["by", WITHOUT, "on", "ignoring", "group_left", "group_right"].iter().any(|k| k.eq_ignore_ascii_case(word))
}

/// Whether it is a function or an aggregation.
pub(crate) fn is_function(word: &str) -> bool {
    FUNCTIONS.iter().any(|(name, ..)| *name == word) || AGGREGATIONS.iter().any(|(name, _)| *name == word)
}

/// Whether it is a keyword.
pub(crate) fn is_keyword(word: &str) -> bool {
    word.eq_ignore_ascii_case(WITHOUT) || KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}
