package auth

// forSDK returns the paths to pass to the SDK, and a function that releases them. A
// file that cannot be used is not passed: the SDK would fail on some of them, even if
// it needs none.
func (f *sharedFile) forSDK() (paths []string, release func()) {
	if f.problem != "" {
		return []string{}, func() {}
	}
	if f.content != "" {
		if path, release, ok := memoryFile(f.content); ok {
			return []string{path}, release
		}
	}
	return []string{f.path}, func() {}
}
