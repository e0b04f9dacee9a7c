// Updates the page every 5 seconds, in place: the position, the focus and the selection remain.
'use strict';
(() => {
  const interval = 5000;

  // Shows times in the browser's time zone.
  const localize = (root) => {
    for (const time of root.querySelectorAll('time')) {
      const at = new Date(time.dateTime).toLocaleString('sv-SE', { timeZoneName: 'short' });
      const text = time.querySelector('small');
      if (text) text.textContent = at;
      if (time.title) time.title = time.title.replace(/[-0-9]+ [:0-9]+ UTC/, at);
    }
  };

  // Makes old equal to fresh, and keeps the nodes that they have in common.
  const update = (old, fresh) => {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    const nodes = [...old.childNodes];
    [...fresh.childNodes].forEach((node, i) => nodes[i] ? update(nodes[i], node) : old.append(node));
    nodes.slice(fresh.childNodes.length).forEach((node) => node.remove());
  };

  const refresh = async () => {
    if (document.hidden || !getSelection().isCollapsed) return;
    let text;
    try {
      const response = await fetch(location.href, { signal: AbortSignal.timeout(interval) });
      if (!response.ok) throw new Error(response.statusText);
      text = await response.text();
    } catch {
      document.getElementById('stale').hidden = false;
      return;
    }
    if (!getSelection().isCollapsed) return;
    const fresh = new DOMParser().parseFromString(text, 'text/html');
    if (fresh.querySelector('style')?.textContent !== document.querySelector('style').textContent) return location.reload(); // another version
    localize(fresh);
    if (document.title !== fresh.title) document.title = fresh.title;
    update(document.querySelector('link[rel=icon]'), fresh.querySelector('link[rel=icon]'));
    update(document.body, fresh.body);
  };

  localize(document);
  if (new URLSearchParams(location.search).has('paused')) return;
  const loop = () => setTimeout(() => refresh().finally(loop), interval);
  loop();
})();
