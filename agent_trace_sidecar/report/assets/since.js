// The page of a span of time needs nothing but what all pages share.
