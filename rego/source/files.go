package source

import (
	"bytes"
	"context"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// settle is how long files must stay as they are before they are taken for a
// bundle: whoever writes them, writes them one after the other.
const settle = 250 * time.Millisecond

// files is a directory or an archive on disk.
type files struct {
	path string
	poll time.Duration
}

// follow reads the files whenever they may have changed: when the system says
// so, and every poll interval for file systems that say nothing.
func (f *files) follow(ctx context.Context, tell func(Event)) {
	changes := make(chan struct{}, 1)
	watched := func() {}
	if watcher, err := fsnotify.NewWatcher(); err == nil { // without one there is the poll interval
		ended := make(chan struct{})
		go func() { defer close(ended); f.notice(watcher, changes) }()
		defer func() { _ = watcher.Close(); <-ended }()
		watched = func() { f.watch(watcher) }
	}
	ticker := time.NewTicker(f.poll)
	defer ticker.Stop()
	var told news
	for {
		watched()
		archive, err := f.settled(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			told = news{}
			tell(Event{Err: err})
		case told.isNew(archive):
			tell(Event{Archive: archive})
		default:
			tell(Event{})
		}
		select {
		case <-ctx.Done():
			return
		case <-changes:
		case <-ticker.C:
		}
	}
}

// notice tells changes of the files until the watcher is closed. Lost events
// are changes too.
func (f *files) notice(watcher *fsnotify.Watcher, changes chan<- struct{}) {
	for {
		select {
		case event, open := <-watcher.Events:
			if !open {
				return
			}
			if !f.concerns(event.Name) {
				continue
			}
		case _, open := <-watcher.Errors:
			if !open {
				return
			}
		}
		select {
		case changes <- struct{}{}:
		default: // one is waiting, which will see this one too
		}
	}
}

// concerns leaves out what else happens in the folder beside the bundle.
func (f *files) concerns(name string) bool {
	if name == f.path || strings.HasPrefix(name, f.path+string(filepath.Separator)) {
		return true
	}
	root, err := filepath.EvalSymlinks(f.path)
	return err != nil || name == root || strings.HasPrefix(name, root+string(filepath.Separator))
}

// settled reads until two readings, a while apart, are the same.
func (f *files) settled(ctx context.Context) ([]byte, error) {
	before, errBefore := bundle.ReadArchive(f.path)
	for range 20 { // files that never rest are read as they are
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(settle):
		}
		archive, err := bundle.ReadArchive(f.path)
		if bytes.Equal(before, archive) && (err == nil) == (errBefore == nil) {
			return archive, err
		}
		before, errBefore = archive, err
	}
	return before, errBefore
}

// watch watches the path's folder, for a path that is replaced, and every
// folder below a directory. What cannot be watched is polled.
func (f *files) watch(watcher *fsnotify.Watcher) {
	_ = watcher.Add(filepath.Dir(f.path))
	root, err := filepath.EvalSymlinks(f.path)
	if err != nil {
		return
	}
	folders := 0
	_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || folders > bundle.MaxFiles {
			return fs.SkipAll
		}
		if entry.IsDir() {
			folders++
			_ = watcher.Add(path)
		}
		return nil
	})
}
