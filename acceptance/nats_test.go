package acceptance_test

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
)

// nats is a publisher over NATS' text protocol, all that registering routes
// needs.
type nats struct {
	net.Conn
	mu sync.Mutex
}

// dialNATS connects and waits until the server has taken it in.
func dialNATS(port int) (*nats, error) {
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	n := &nats{Conn: conn}
	if err := n.send("CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n"); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "-ERR") {
			return nil, fmt.Errorf("nats: %s", lines.Text())
		}
		if lines.Text() == "PONG" {
			go n.answerPings(lines)
			return n, nil
		}
	}
	return nil, fmt.Errorf("nats: the connection ended: %w", lines.Err())
}

// answerPings keeps the connection alive until it is closed.
func (n *nats) answerPings(lines *bufio.Scanner) {
	for lines.Scan() {
		if lines.Text() == "PING" {
			_ = n.send("PONG\r\n") // the next publish reports a broken connection
		}
	}
}

func (n *nats) publish(subject string, message []byte) error {
	return n.send(fmt.Sprintf("PUB %s %d\r\n%s\r\n", subject, len(message), message))
}

func (n *nats) send(s string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, err := n.Write([]byte(s))
	return err
}
