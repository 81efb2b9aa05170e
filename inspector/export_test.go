package inspector

// AtTheEnd is atTheEnd, for tests.
var AtTheEnd = atTheEnd
