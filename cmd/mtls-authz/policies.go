package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/activation"
	"github.com/mtls-authz/mtls-authz/rego/candidate"
	"github.com/mtls-authz/mtls-authz/rego/recording"
)

// buildPolicy makes what follows POLICY_BUNDLE, and POLICY_CANDIDATE beside it.
// What is there may be refused or away: then the gateway is not ready.
func (g *server) buildPolicy(ctx context.Context) error {
	seal, err := g.store.Key(ctx, "policy-seal")
	if err != nil {
		return err
	}
	roots, err := g.authorities.ExtraRoots()
	if err != nil {
		return err
	}
	cfg := activation.Config{
		Policy: rego.Config{Bundle: g.PolicyBundle, Key: g.PolicyKey, Timeout: g.PolicyTimeout, Zone: g.PolicyZone},
		Token:  g.PolicyBundleToken, Roots: roots, Poll: g.PolicyPollInterval,
		Folder: filepath.Join(g.DataDir, "policy"), Seal: seal, Log: g.log, Metrics: g.registry,
	}
	if g.policy, err = activation.Open(ctx, cfg); err != nil {
		return fmt.Errorf("POLICY_BUNDLE: %w", err)
	}
	g.background = append(g.background, g.policy.Run)
	g.recording = recording.New(recording.Config{})
	if g.PolicyCandidate == "" {
		return nil
	}
	cfg.Policy.Bundle, cfg.Folder, cfg.Metrics, cfg.Log = g.PolicyCandidate, "", nil, g.log.With(slog.Bool("candidate", true))
	if !sameServer(g.PolicyBundle, g.PolicyCandidate) {
		cfg.Token = "" // it is for the other one
	}
	return g.buildCandidate(ctx, cfg)
}

func (g *server) buildCandidate(ctx context.Context, cfg activation.Config) error {
	follower, err := activation.Open(ctx, cfg)
	if err != nil {
		return fmt.Errorf("POLICY_CANDIDATE: %w", err)
	}
	g.candidate, err = candidate.New(candidate.Config{Policy: follower.Policy, Share: g.PolicyCandidateShare, Log: g.log, Metrics: g.registry})
	if err != nil {
		return fmt.Errorf("POLICY_CANDIDATE_SHARE: %w", err)
	}
	g.background = append(g.background, follower.Run, g.candidate.Run)
	return nil
}

// decided passes on what the policy said.
func (g *server) decided(id string, r *rego.Request, d rego.Decision) {
	g.recording.Observe(id, r, d)
	if g.candidate != nil {
		g.candidate.Observe(id, r, d)
	}
}

// ready returns why nothing can be decided.
func (g *server) ready() error {
	if err := g.policy.Ready(); err != nil {
		return err
	}
	return g.store.View().Fresh()
}

// sameServer reports whether two locations are on one server.
func sameServer(one, other string) bool {
	a, err := url.Parse(one)
	b, otherErr := url.Parse(other)
	return err == nil && otherErr == nil && a.Scheme == "https" && b.Scheme == a.Scheme && strings.EqualFold(a.Host, b.Host)
}
