package doctor

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/mtls-authz/mtls-authz/doctor"
)

// terminal is the one that is written to, if a person watches.
func terminal(w io.Writer) (fd int, is bool) {
	file, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	return int(file.Fd()), term.IsTerminal(int(file.Fd()))
}

// width is that of the terminal.
func width(w io.Writer) int {
	if fd, is := terminal(w); is {
		if columns, _, err := term.GetSize(fd); err == nil && columns > 0 {
			return columns
		}
	}
	return doctor.Width
}

// progress writes one line again and again while checks look, for a person alone.
func progress(w io.Writer) func(checks int) (looked func(item string)) {
	return func(checks int) func(string) {
		if _, is := terminal(w); !is {
			return nil
		}
		done := 0
		const clear = "\r\x1b[K" // to the begin of the line, and to its end
		fmt.Fprintf(w, "looking at %d items ...", checks)
		return func(item string) {
			if done++; done == checks {
				fmt.Fprint(w, clear)
				return
			}
			fmt.Fprintf(w, "%s%d of %d: %s", clear, done, checks, item)
		}
	}
}
