package list

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mtls-authz/mtls-authz/store/database"
)

const (
	defaultSize = 50
	maxSize     = 5000
	maxOffset   = 1 << 40
	// maxBytes bounds what the rows of a page hold, as text; in memory they take
	// some ten times that.
	maxBytes = 32 << 20
)

// ErrTooLarge: the rows of the page hold too much; a smaller page may not.
var ErrTooLarge = errors.New("the page is too large")

// Page is a part of a list.
type Page struct {
	// Number counts from 1, Size is the most that is returned, up to 5000.
	// Defaults: 1, 50.
	Number, Size int
	// Descending puts the newest first.
	Descending bool
}

func (p Page) bounds() (size, offset int) {
	if size = min(p.Size, maxSize); size < 1 {
		size = defaultSize
	}
	return size, min(max(p.Number, 1)-1, maxOffset/size) * size
}

func (p Page) direction() string {
	if p.Descending {
		return " DESC"
	}
	return ""
}

// conditions must all hold. They and what follows them in a query number the
// parameters.
type conditions struct {
	texts []string
	args  []any
}

// arg adds a parameter and returns its place in the query.
func (c *conditions) arg(value any) string {
	c.args = append(c.args, value)
	return "$" + strconv.Itoa(len(c.args))
}

func (c *conditions) add(text string) { c.texts = append(c.texts, text) }

// in adds a condition on one of several values, whose places stand where the
// text has %; it adds nothing if there are none.
func (c *conditions) in(text string, values []string) {
	if len(values) > 0 {
		c.add(strings.ReplaceAll(text, "%", strings.Join(c.each("%", values), ", ")))
	}
}

// or adds a condition that must hold for one of several values.
func (c *conditions) or(text string, values []string) {
	if len(values) > 0 {
		c.add("(" + strings.Join(c.each(text, values), " OR ") + ")")
	}
}

// each repeats a text for every value, with its place for the text's %. What no
// column can hold equals nothing, and PostgreSQL would not take it.
func (c *conditions) each(text string, values []string) []string {
	texts := make([]string, len(values))
	for i, value := range values {
		place := "NULL"
		if utf8.ValidString(value) && !strings.Contains(value, "\x00") {
			place = c.arg(value)
		}
		texts[i] = strings.ReplaceAll(text, "%", place)
	}
	return texts
}

func (c *conditions) where() string {
	if len(c.texts) == 0 {
		return ""
	}
	return ` WHERE ` + strings.Join(c.texts, ` AND `)
}

// table is what a list is read from.
type table[T any] struct {
	name, columns string
	scan          database.Scanner[T]
	// order are the two columns to sort by; together they are unique.
	order [2]string
	// bytes is, in SQL, how much a row holds.
	bytes string
	// also is, in SQL, how much a page holds beside its rows, from the SQL of the
	// page; nil: nothing.
	also func(page string) string
}

// read returns a page and how many rows there are in all. q must show one
// moment of the database.
func (t table[T]) read(ctx context.Context, q database.Querier, c conditions, p Page) (list []T, total int, err error) {
	number, err := database.ReadNumber(ctx, q, `SELECT COUNT(*) FROM `+t.name+c.where(), c.args...)
	if err != nil {
		return nil, 0, err
	}
	size, offset := p.bounds()
	key, order := t.order[0]+`, `+t.order[1], ` ORDER BY `+t.order[0]+p.direction()+`, `+t.order[1]+p.direction()
	// The rows are large: only their keys are sorted.
	page := ` FROM ` + t.name + ` WHERE (` + key + `) IN (SELECT ` + key + ` FROM ` + t.name + c.where() +
		order + ` LIMIT ` + c.arg(size) + ` OFFSET ` + c.arg(offset) + `)`
	sizes := `SELECT COALESCE(SUM(` + t.bytes + `), 0)`
	if t.also != nil {
		sizes += ` + COALESCE((` + t.also(page) + `), 0)`
	}
	bytes, err := database.ReadNumber(ctx, q, sizes+page, c.args...)
	if err != nil {
		return nil, 0, err
	}
	if bytes > maxBytes {
		return nil, 0, fmt.Errorf("%w: %d MiB, at most %d are shown at once", ErrTooLarge, bytes>>20, maxBytes>>20)
	}
	list, broken, err := database.ReadAll(ctx, q, t.scan, `SELECT `+t.columns+page+order, c.args...)
	return list, int(number), errors.Join(append(broken, err)...)
}
