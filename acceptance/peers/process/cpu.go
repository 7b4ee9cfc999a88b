package process

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of /proc/PID/stat, USER_HZ: 100 a second on all of Linux.
const tick = 10 * time.Millisecond

// CPU is the processor time, user's and system's, that processes and their
// children have used so far. A process that has ended counts no more. It is
// known on Linux only.
func CPU(pids ...int) (time.Duration, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(paths) == 0 {
		return 0, fmt.Errorf("processor time: there is no /proc with processes: %w", os.ErrNotExist)
	}
	var all time.Duration
	found := 0
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		s, err := parse(string(text))
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		switch {
		case slices.Contains(pids, s.pid):
			found++
			all += s.used
		case slices.Contains(pids, s.parent):
			all += s.used
		}
	}
	if found < len(pids) {
		return 0, fmt.Errorf("processor time: of the processes %v only %d run", pids, found)
	}
	return all, nil
}

// Own is the processor time that this process has used so far, without its
// children.
func Own() (time.Duration, error) {
	var used syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), err
}

type stat struct {
	pid, parent int
	used        time.Duration
}

// parse reads proc_pid_stat(5): the pid, the command in parentheses (which may
// hold spaces and parentheses), the state, the parent, and as 14th and 15th fields
// the ticks as user and as system.
func parse(text string) (stat, error) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("%q: expected a command in parentheses", text)
	}
	fields := append(strings.Fields(text[:open]), strings.Fields(text[end+1:])...)
	if len(fields) < 14 {
		return stat{}, fmt.Errorf("%q: expected 15 fields or more", text)
	}
	var numbers [4]int
	for i, at := range []int{0, 2, 12, 13} { // the command is not among them
		n, err := strconv.Atoi(fields[at])
		if err != nil {
			return stat{}, fmt.Errorf("field %d: %w", at, err)
		}
		numbers[i] = n
	}
	return stat{pid: numbers[0], parent: numbers[1], used: time.Duration(numbers[2]+numbers[3]) * tick}, nil
}
